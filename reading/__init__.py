"""What the data layers of layers.py are made of.

seg_data_layer                                  the base that they share; read it first
param_str, image_order, augmentation            settings, the order of images, mirror, jitter and masks
image_files, mat_files, folder_files            images and labels on disk
label_layers, context_classes                   what stands between labels and a loss; PASCAL-Context's classes
data_layers                                     the data layers of a net as its prototxt has them
"""
