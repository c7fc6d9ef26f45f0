/* NaFlex (SigLIP 2): an image of any aspect ratio as at most so many patches. */
#ifndef REINFORCE_IMAGE_NAFLEX_H
#define REINFORCE_IMAGE_NAFLEX_H

/**
 * The largest size that keeps the aspect ratio up to rounding each side up to whole patches, and
 * has at most max_patches of them; smaller images grow, at most 100-fold. Arguments are positive.
 * Source: transformers image_processing_siglip2.py get_image_size_for_max_num_patches.
 */
void naflex_target(int height, int width, int patch, int max_patches, int *out_height,
                   int *out_width);

#endif
