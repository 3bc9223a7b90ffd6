"""The U-Net of Ronneberger et al. 2015 as tensors: network, loss, weight map, augmentation.

Entry: `unet.UNet`, `loss`, `weight_map`, `elastic`, `augment`.
Must not know: files, settings, where the tensors live.
"""
