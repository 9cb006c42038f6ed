"""What the data layers of layers.py are made of: files, the order of images, settings, augmentation."""
