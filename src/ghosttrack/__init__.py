"""Why does a language model hallucinate? Follow its features across layers as competing hypothesis tracks."""
