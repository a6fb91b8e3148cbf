"""The meta-learnt model: set encoder, generator, predictor, and their training."""
