//! Random PDUs, octets and times: see [`crate::fuzzing::session`] for what must hold.

use proptest::prelude::*;

proptest! {
    #[test]
    fn any_sequence_keeps_the_promises(input in prop::collection::vec(any::<u8>(), 0..2_000)) {
        crate::fuzzing::session(&input);
    }

    /// Steps that are mostly sensible, so that sessions get somewhere.
    #[test]
    fn sensible_sequences_keep_the_promises(
        steps in prop::collection::vec((0u8..16, 0u8..40, any::<[u8; 6]>()), 0..200),
        choice in any::<u8>(),
        habits in prop_oneof![Just(0), any::<u8>()],
    ) {
        let mut input = vec![choice, habits];
        for (step, what, octets) in steps {
            input.extend([step, what]);
            input.extend(octets);
        }
        crate::fuzzing::session(&input);
    }
}
