"""What Swath does: search, gate, cube, pretrain, evaluate, register."""
