"""Phase 3: answers, labels, and feature tracks across layers."""
