//! Cases and rules that judge an anychip device against the oracle.
