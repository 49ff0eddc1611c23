//! What a server with a draft model says of a request: how many of the proposed tokens each step accepted. vLLM's shape.

/// `speculative_decoding` of a response of `made` tokens, `drafted` proposed in each step. A step makes one token more than it accepts; in
/// turn none, one, …, all are accepted, and the last step accepts what was left to make. `None` where no step proposed anything: the first
/// token comes with the prompt.
pub(crate) fn told(drafted: u32, made: u32) -> Option<String> {
    if drafted == 0 || made < 2 {
        return None;
    }
    let mut steps = Vec::new();
    let mut left = made - 1;
    while left > 0 {
        let turn = steps.len() as u32 % (drafted + 1);
        let accepted = turn.min(left - 1);
        steps.push(accepted);
        left -= accepted + 1;
    }
    let mut histogram = vec![0_u32; drafted as usize + 1];
    for &accepted in &steps {
        histogram[accepted as usize] += 1;
    }
    let accepted: u32 = steps.iter().sum();
    let count = steps.len() as u32;
    let proposed = count * drafted;
    Some(format!(
        "{{\"mean_acceptance_length\":{},\"draft_acceptance_rate\":{},\"acceptance_histogram\":{histogram:?},\"num_accepted_draft_tokens\":{accepted},\"num_draft_tokens\":{proposed},\"num_spec_steps\":{count},\"num_spec_tokens\":{drafted}}}",
        1.0 + f64::from(accepted) / f64::from(count),
        f64::from(accepted) / f64::from(proposed),
    ))
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn steps_make_all_tokens_but_the_first() {
        // Steps of 0, 1, 2 and, of the last token, 0 accepted: 1 + (1 + 2 + 3 + 1) = 8 tokens.
        let said: serde_json::Value = serde_json::from_str(&told(2, 8).expect("steps")).expect("JSON");
        assert_eq!(said["acceptance_histogram"], serde_json::json!([2, 1, 1]));
        assert_eq!(
            (&said["num_spec_steps"], &said["num_accepted_draft_tokens"]),
            (&4.into(), &3.into())
        );
        assert_eq!(
            (&said["num_draft_tokens"], &said["num_spec_tokens"]),
            (&8.into(), &2.into())
        );
        assert_eq!(said["mean_acceptance_length"], 1.75);
    }

    #[test]
    fn without_a_draft_or_a_second_token_nothing_is_said() {
        assert_eq!((told(0, 9), told(3, 1)), (None, None));
    }
}
