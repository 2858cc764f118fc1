"""Operations: what layers compute, each with a body for every device, and kernels of the host that only they use."""
