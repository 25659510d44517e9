"""What the browser extension asks ComfyUI's server: plans by number, and the panel's folder."""
