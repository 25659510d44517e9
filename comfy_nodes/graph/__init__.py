"""What the graph that ComfyUI runs says about how its images are made."""

from .settings import Graph, generator_settings, is_link, reproducibility_warnings, upstream

__all__ = ["Graph", "generator_settings", "is_link", "reproducibility_warnings", "upstream"]
