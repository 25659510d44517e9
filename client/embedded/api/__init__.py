"""The engine over HTTP: ComfyUI's routes, the websocket, and who may use them."""
