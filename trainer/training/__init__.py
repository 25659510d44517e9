"""Training one network: inputs, augmentation, the loop itself, one run of a grid, and hyper-parameters."""
