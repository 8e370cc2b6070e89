//! How a run behaves.
