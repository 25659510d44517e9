"""What a check says of images, and the quarantine that rejected ones are moved to."""
