"""What can go wrong in the trainer through no fault of its code.

SynthGridError                        (comfy_nodes.errors)
'- TrainerError
   |- ConfigError                     an option or a config file that makes no grid
   |- DataError                       folders or images that cannot be trained on
   |- WeightsError                    pretrained weights that are not to be had or do not fit
   |- RunError                        one run that failed (its loss became NaN, ...); the rest of the grid goes on
   '- ReportError                     a folder that holds no grid, or one that cannot be read or written
"""

from comfy_nodes.errors import SynthGridError


class TrainerError(SynthGridError):
    """A mistake with a known culprit, met while training or reporting."""


class ConfigError(TrainerError):
    """An option or a field of a config file is unknown, of the wrong type, or out of range."""


class DataError(TrainerError):
    """A class folder, an image or a count of images from which no grid can be trained."""


class WeightsError(TrainerError):
    """Pretrained weights that cannot be downloaded or read, or that belong to another architecture."""


class RunError(TrainerError):
    """One cell of the grid failed; its folder says why, and the other cells go on."""


class ReportError(TrainerError):
    """A runs folder that holds no grid, was damaged, or cannot be written."""
