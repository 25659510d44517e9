"""A Ray cluster makes the images of a run, in place of ComfyUI servers."""

from .ray_cluster import CORES, RayCluster

__all__ = ["CORES", "RayCluster"]
