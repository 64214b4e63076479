//! What a session publishes, as text, JSON and drawings.
