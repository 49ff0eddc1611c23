"""Kinds of tokenizer, one file each (protocol: `aiperf.workload.tokenizer.Tokenizer`)."""
