//! All blocks that a key can sign up to a height: a tree in which every block has two children, so that any two blocks, whatever their
//! heights, can be told to link or not.

use std::fmt;

/// Up to which height there are blocks.
pub const HEIGHTS: u8 = 3;

/// A block, or what the first block stands on: numbered as in a heap, so that a parent is half of its child.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(u8);

impl Block {
    /// What the blocks of height 1 stand on. No block itself, and on every chain.
    pub const ROOT: Self = Self(1);

    /// The block that is written like this: one letter, `a` or `b`, for each height.
    pub fn named(name: &str) -> Self {
        name.bytes().fold(Self::ROOT, |parent, letter| parent.child(letter - b'a'))
    }

    pub fn numbered(number: u8) -> Self {
        assert!((1..16).contains(&number), "there is no such block");
        Self(number)
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// 0 for the root.
    pub fn height(self) -> u8 {
        u8::try_from(self.0.ilog2()).expect("small")
    }

    pub fn parent(self) -> Self {
        assert!(self != Self::ROOT, "nothing is below the root");
        Self(self.0 / 2)
    }

    pub fn child(self, variant: u8) -> Self {
        assert!(self.height() < HEIGHTS && variant < 2, "there is no such block");
        Self(2 * self.0 + variant)
    }

    pub fn children(self) -> impl Iterator<Item = Self> {
        (0..2).filter(move |_| self.height() < HEIGHTS).map(move |variant| self.child(variant))
    }

    /// What stands at this height on the chain that ends here; the height is not above this block's.
    pub fn at(self, height: u8) -> Self {
        Self(self.0 >> (self.height() - height))
    }

    /// Whether this block is on the chain that ends in `top`.
    pub fn is_on(self, top: Self) -> bool {
        self.height() <= top.height() && top.at(self.height()) == self
    }

    /// The highest block that is on both chains.
    pub fn fork(self, other: Self) -> Self {
        let lower = self.height().min(other.height());
        (0..=lower).rev().map(|height| self.at(height)).find(|block| block.is_on(other)).unwrap_or(Self::ROOT)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ROOT {
            return f.write_str("-");
        }
        (1..=self.height())
            .try_for_each(|height| f.write_str(if self.at(height).0.is_multiple_of(2) { "a" } else { "b" }))
    }
}

/// A set of blocks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Set(u16);

impl Set {
    pub const EMPTY: Self = Self(0);

    pub fn has(self, block: Block) -> bool {
        self.0 & (1 << block.0) != 0
    }

    pub fn insert(&mut self, block: Block) {
        self.0 |= 1 << block.0;
    }

    pub fn remove(&mut self, block: Block) {
        self.0 &= !(1 << block.0);
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Ascending by height.
    pub fn iter(self) -> impl Iterator<Item = Block> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let number = u8::try_from(left.trailing_zeros()).ok().filter(|number| *number < 16)?;
            left &= left - 1;
            Some(Block(number))
        })
    }

    /// The chain that ends in `top`, without the root.
    pub fn chain(top: Block) -> Self {
        let (mut set, mut at) = (Self::EMPTY, top);
        while at != Block::ROOT {
            set.insert(at);
            at = at.parent();
        }
        set
    }

    /// Those that stand on `block`, and itself.
    pub fn from(self, block: Block) -> Self {
        self.iter().filter(|other| block.is_on(*other)).collect()
    }
}

impl FromIterator<Block> for Set {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        let mut set = Self::EMPTY;
        blocks.into_iter().for_each(|block| set.insert(block));
        set
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
