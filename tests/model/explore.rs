//! Breadth first through everything that can happen: every state once, the shortest way to the first one that breaks a promise.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// What is explored.
pub trait Model {
    type State: Clone + Hash;
    type Step: Clone + fmt::Debug;

    /// Hands every step that can be made from here to `visit`, with where it leads to, or with the promise that it breaks.
    fn steps(&self, state: &Self::State, visit: &mut dyn FnMut(Self::Step, Result<Self::State, String>));

    /// A promise about the state itself.
    fn check(&self, state: &Self::State) -> Result<(), String>;
}

/// How much was explored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub states: usize,
    pub transitions: usize,
    /// The most steps from a root.
    pub depth: usize,
    pub time: Duration,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, depth, time } = self;
        write!(f, "{states} states, {transitions} transitions, depth {depth}, {:.1} s", time.as_secs_f64())
    }
}

/// A promise is broken, by these steps from a root.
#[derive(Clone, Debug)]
pub struct Broken<State, Step> {
    pub root: State,
    /// The last state that was sound, or the one that is not.
    pub state: State,
    pub steps: Vec<Step>,
    pub why: String,
}

/// What came of an exploration.
#[derive(Debug)]
pub struct Outcome<State, Step> {
    pub count: Count,
    pub broken: Option<Broken<State, Step>>,
    /// Not everything was seen: there was no room for more states.
    pub cut: bool,
}

/// How a state was reached: from which, by its place in the list, and by what.
type Origin<Step> = Option<(usize, Step)>;

struct Explored<M: Model> {
    states: Vec<(M::State, Origin<M::Step>)>,
    /// By a hash of 64 bits: that two states share one is unlikelier than a fault of the machine.
    known: HashSet<u64, BuildHasherDefault<Same>>,
}

impl<M: Model> Explored<M> {
    fn add(&mut self, state: M::State, origin: Origin<M::Step>) {
        if self.known.insert(hash(&state)) {
            self.states.push((state, origin));
        }
    }

    fn trace(&self, mut at: usize, last: Option<M::Step>, why: String) -> Broken<M::State, M::Step> {
        let state = self.states[at].0.clone();
        let mut steps: Vec<_> = last.into_iter().collect();
        while let Some((from, step)) = &self.states[at].1 {
            steps.push(step.clone());
            at = *from;
        }
        steps.reverse();
        Broken { root: self.states[at].0.clone(), state, steps, why }
    }
}

/// 64 bits of it.
pub fn hash(state: &impl Hash) -> u64 {
    let mut hasher = Mix::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Explores until nothing is new, a promise is broken, or there are more than `max_states`.
pub fn explore<M: Model>(model: &M, roots: Vec<M::State>, max_states: usize) -> Outcome<M::State, M::Step> {
    let begun = Instant::now();
    let mut all = Explored::<M> { states: Vec::new(), known: HashSet::default() };
    for root in roots {
        all.add(root, None);
    }
    let mut count = Count::default();
    let mut broken = None;
    let (mut at, mut layer_ends) = (0, all.states.len());
    while at < all.states.len() && broken.is_none() && all.states.len() <= max_states {
        if at == layer_ends {
            count.depth += 1;
            layer_ends = all.states.len();
        }
        let state = all.states[at].0.clone();
        if let Err(why) = model.check(&state) {
            broken = Some(all.trace(at, None, why));
        }
        model.steps(&state, &mut |step, next| {
            count.transitions += 1;
            match next {
                Ok(next) => all.add(next, Some((at, step))),
                Err(why) if broken.is_none() => broken = Some(all.trace(at, Some(step), why)),
                Err(_) => {}
            }
        });
        at += 1;
    }
    let cut = broken.is_none() && at < all.states.len();
    Outcome { count: Count { states: all.states.len(), time: begun.elapsed(), ..count }, broken, cut }
}

impl<State: fmt::Debug, Step: fmt::Debug> fmt::Display for Broken<State, Step> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| format!("{step:?}")).collect();
        write!(f, "{}\n    by {}\n    from {:?}\n    at {:?}", self.why, steps.join(", "), self.root, self.state)
    }
}

/// Mixes what is hashed into 64 bits, quickly: states are of our own making.
#[derive(Default)]
struct Mix(u64);

impl Mix {
    fn word(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.word(chunk.iter().fold(chunk.len() as u64, |word, byte| (word << 8) | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }
}

/// What is a hash already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("hashes are of 64 bits");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
