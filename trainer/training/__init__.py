"""Training one network: inputs, augmentation, the loop, one run of a grid, hyper-parameters."""
