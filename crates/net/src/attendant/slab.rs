//! Things with numbers that are never used twice, so that news of what has gone reaches nobody else.

/// The number of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token {
    place: u32,
    generation: u32,
}

impl Token {
    /// Returns it as one number.
    pub(crate) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    /// Reads it from one number.
    pub(crate) fn of_number(number: u64) -> Self {
        Self { place: number as u32, generation: (number >> 32) as u32 }
    }
}

/// Things by their numbers.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, thing: T) -> Token {
        if let Some(place) = self.free.pop()
            && let Some((generation, slot)) = self.places.get_mut(place as usize)
        {
            *slot = Some(thing);
            return Token { place, generation: *generation };
        }
        // There are fewer than a process can have descriptors.
        let place = self.places.len() as u32;
        self.places.push((0, Some(thing)));
        Token { place, generation: 0 }
    }

    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        self.places.get(token.place as usize).filter(|place| place.0 == token.generation)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.places.get_mut(token.place as usize).filter(|place| place.0 == token.generation)?.1.as_mut()
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        let (generation, slot) =
            self.places.get_mut(token.place as usize).filter(|place| place.0 == token.generation)?;
        let thing = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(token.place);
        Some(thing)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.places.iter().enumerate().filter_map(|(place, (generation, thing))| {
            Some((Token { place: place as u32, generation: *generation }, thing.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_means_one_thing_for_ever() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c');
        assert_ne!(a, c);
        assert_eq!([slab.get(a), slab.get(b), slab.get(c)], [None, Some(&'b'), Some(&'c')]);
        assert_eq!((slab.remove(a), slab.len()), (None, 2));
        assert_eq!(Token::of_number(c.number()), c);
        assert_eq!(Vec::from_iter(slab.iter().map(|(token, _)| token)), [c, b]);
    }
}
