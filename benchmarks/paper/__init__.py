"""The experiments of Matryoshka Representation Learning (arXiv:2205.13147), on data that fit a small machine."""
