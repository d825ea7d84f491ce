"""Recipe in, image out: what a bake is made of. Knows no cloud by name."""
