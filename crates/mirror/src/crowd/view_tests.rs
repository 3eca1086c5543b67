//! Crowds without a network: what each decides by what it heard.
