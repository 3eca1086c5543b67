//! The three ways that bytes go, and what is kept for each of them.

use std::fmt;

/// A way that bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To other nodes.
    Up,
    /// From other nodes and origins.
    Down,
    /// From origins; these bytes count as `Down` too.
    Origin,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Origin];

    /// As configs and commands write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Origin => "origin",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Each<T> {
    /// To other nodes.
    pub up: T,
    /// From other nodes and origins.
    pub down: T,
    /// From origins.
    pub origin: T,
}

impl<T> Each<T> {
    /// What `make` makes for each direction.
    pub fn new(mut make: impl FnMut(Direction) -> T) -> Self {
        Self { up: make(Direction::Up), down: make(Direction::Down), origin: make(Direction::Origin) }
    }

    /// That of one direction.
    pub const fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
            Direction::Origin => &self.origin,
        }
    }

    /// That of one direction, to be changed.
    pub const fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
            Direction::Origin => &mut self.origin,
        }
    }
}
