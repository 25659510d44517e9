"""What images are judged by: networks, and the one way in which every image is seen."""
