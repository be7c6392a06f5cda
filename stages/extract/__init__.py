"""Phase 1: the residual stream of every layer from one forward pass."""
