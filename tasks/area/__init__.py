"""Area cubes: dense cubes over one area, and embeddings of them."""
