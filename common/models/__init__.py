"""Language models and SAEs, as several stages use them."""
