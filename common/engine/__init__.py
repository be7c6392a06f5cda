"""How a unit of work is done: contracts, the store, the runner, manifests."""
