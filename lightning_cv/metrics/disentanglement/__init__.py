"""How far the latents of a code stand for the factors an image was made from: six metrics, and `scores` of them all."""
