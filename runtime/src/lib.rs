//! DeepSeek V4 over the anychip contract: configuration, checkpoint, KV cache, forward, generation.
