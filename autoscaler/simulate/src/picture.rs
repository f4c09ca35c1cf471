//! A picture.
