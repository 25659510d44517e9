"""ComfyUI's core nodes, as the embedded engine has them."""
