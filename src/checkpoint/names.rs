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

/// The prefix that each of several checkpoints of one model has before all names of the one with the shortest: Lightning
/// calls `net.head.weight` what is `head.weight` in a bare state dict. Only where both have the same names otherwise.
pub fn prefixes_to_drop(checkpoints: &[Vec<&str>]) -> Vec<Option<String>> {
    let none = || vec![None; checkpoints.len()];
    let length = |names: &&Vec<&str>| names.iter().map(|name| name.len()).sum::<usize>();
    let Some(shortest) = checkpoints.iter().filter(|names| !names.is_empty()).min_by_key(length) else { return none() };
    let bare: HashSet<&str> = shortest.iter().copied().collect();
    let Some(least) = shortest.iter().min() else { return none() };
    let prefix = |names: &Vec<&str>| {
        // What the others start with, the name that sorts first starts with too, and so has that of the bare ones left.
        let prefix = names.iter().min()?.strip_suffix(least)?;
        let stripped = |name: &&str| name.strip_prefix(prefix).is_some_and(|name| bare.contains(name));
        let same = names.len() == bare.len() && prefix.ends_with('.') && names.iter().all(stripped);
        same.then(|| prefix.to_owned())
    };
    checkpoints.iter().map(prefix).collect()
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
    fn what_a_framework_puts_before_all_names_is_found() {
        let bare = vec!["head.weight", "body.weight"];
        let framed = vec!["net.body.weight", "net.head.weight"];
        let deeper = vec!["a.b.head.weight", "a.b.body.weight"];
        let found = prefixes_to_drop(&[framed.clone(), bare.clone(), deeper]);
        assert_eq!(found, [Some("net.".to_owned()), None, Some("a.b.".to_owned())]);
        assert_eq!(prefixes_to_drop(&[framed.clone(), framed.clone()]), [None, None]);
        let others =
            [vec!["net.head.weight", "head.weight"], vec!["net.head.weight"], vec!["nethead.weight", "netbody.weight"]];
        for other in others {
            assert_eq!(prefixes_to_drop(&[bare.clone(), other.clone()]), [None, None], "{other:?}");
        }
        assert_eq!(prefixes_to_drop(&[]), []);
        assert_eq!(prefixes_to_drop(&[vec![], bare]), [None, None]);
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
