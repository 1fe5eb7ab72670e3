//! Names of tensors across wrappers: which prefixes are dropped so that checkpoints saved by different wrappers align.
//! Pure.

use std::collections::HashSet;

/// What to do with prefixes that training wrappers add to every name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Prefixes {
    /// Drop `module.` (data parallel) where every tensor has it, and the marks of `torch.compile`, FSDP and activation
    /// checkpointing wherever they stand: no module is ever called so.
    #[default]
    Wrappers,
    /// Keep every name as it is in the file.
    Keep,
    /// Drop this prefix from every name that has it, after what [`Prefixes::Wrappers`] drops.
    Drop(String),
}

/// Name components that only wrappers make.
const WRAPPER_COMPONENTS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
const DATA_PARALLEL: &str = "module.";

/// The names after the policy, in the same order; or the prefix and the name that two tensors would share.
pub(super) fn apply(policy: &Prefixes, names: &[String]) -> Result<Vec<String>, (String, String)> {
    if *policy == Prefixes::Keep {
        return Ok(names.to_vec());
    }
    let mut dropped = Vec::new();
    let mut out: Vec<String> = names.iter().map(|name| without_wrappers(name)).collect();
    if out != names {
        dropped.extend(WRAPPER_COMPONENTS.iter().map(|component| format!("{component}.")));
    }
    while !out.is_empty() && out.iter().all(|name| name.len() > DATA_PARALLEL.len() && name.starts_with(DATA_PARALLEL))
    {
        out.iter_mut().for_each(|name| drop(name.drain(..DATA_PARALLEL.len())));
        dropped.push(DATA_PARALLEL.to_owned());
    }
    if let Prefixes::Drop(prefix) = policy
        && !prefix.is_empty()
    {
        out.iter_mut().filter(|name| name.len() > prefix.len() && name.starts_with(prefix)).for_each(|name| {
            name.drain(..prefix.len());
        });
        dropped.push(prefix.clone());
    }
    let mut seen = HashSet::new();
    match out.iter().find(|name| !seen.insert(name.as_str())) {
        Some(twice) => Err((dropped.join(" "), twice.clone())),
        None => Ok(out),
    }
}

fn without_wrappers(name: &str) -> String {
    if !WRAPPER_COMPONENTS.iter().any(|component| name.contains(component)) {
        return name.to_owned();
    }
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPER_COMPONENTS.contains(part)).collect();
    if parts.is_empty() { name.to_owned() } else { parts.join(".") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn wrappers_are_dropped_where_all_names_share_them() {
        let wrapped = names(&["module._orig_mod.a.weight", "module._orig_mod.a._fsdp_wrapped_module.bias"]);
        assert_eq!(apply(&Prefixes::Wrappers, &wrapped).unwrap(), names(&["a.weight", "a.bias"]));
        assert_eq!(apply(&Prefixes::Keep, &wrapped).unwrap(), wrapped);
        let mixed = names(&["module.a", "b"]);
        assert_eq!(apply(&Prefixes::Wrappers, &mixed).unwrap(), mixed);
    }

    #[test]
    fn a_named_prefix_is_dropped_and_a_collision_is_refused() {
        let drop = Prefixes::Drop("model.".to_owned());
        assert_eq!(apply(&drop, &names(&["model.a", "model.b", "c"])).unwrap(), names(&["a", "b", "c"]));
        assert_eq!(apply(&drop, &names(&["model.a", "a"])), Err(("model.".to_owned(), "a".to_owned())));
        let both = names(&["_orig_mod.a", "a"]);
        assert!(matches!(apply(&Prefixes::Wrappers, &both), Err((_, name)) if name == "a"));
    }
}
