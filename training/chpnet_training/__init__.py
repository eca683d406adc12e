"""Training for chpnet-stream: data readers, simulation, distillation, evaluation and export."""
