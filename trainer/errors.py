"""What can go wrong in the trainer that is not a bug in its code.

SynthGridError                        (comfy_nodes.errors)
'- TrainerError
   |- ConfigError                     an invalid option or config file
   |- DataError                       folders or images that cannot be trained on
   |- WeightsError                    pretrained weights that are not available or do not fit
   |- RunError                        one run that failed (its loss became NaN, ...)
   '- ReportError                     a folder without a grid, or one that cannot be read or written
"""

from comfy_nodes.errors import SynthGridError


class TrainerError(SynthGridError):
    """An error with a known cause, raised while training or reporting."""


class ConfigError(TrainerError):
    """An option or a field of a config file is unknown, of the wrong type, or out of range."""


class DataError(TrainerError):
    """Class folders, images or numbers of images from which a grid cannot be trained."""


class WeightsError(TrainerError):
    """Pretrained weights that cannot be downloaded or read, or that belong to another
    architecture."""


class RunError(TrainerError):
    """One run of the grid failed; its folder says why, and the other runs continue."""


class ReportError(TrainerError):
    """A runs folder without a grid, or one that is damaged or cannot be written."""
