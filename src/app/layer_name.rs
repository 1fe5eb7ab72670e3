//! What names and shapes of layers tell. Pure.

/// Which block a layer belongs to: the first number among the parts of its name.
pub(super) fn depth(layer: &str) -> Option<u32> {
    crate::analysis::depth(layer).and_then(|depth| u32::try_from(depth).ok())
}

/// What kind of weight a layer is: its name behind the block's number, or the whole name where there is none.
pub(super) fn module(layer: &str) -> &str {
    let mut rest = layer;
    while let Some((part, behind)) = rest.split_once('.') {
        if part.parse::<u64>().is_ok() {
            return behind;
        }
        rest = behind;
    }
    layer
}

/// `2×3×4`, or `scalar`.
pub(super) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        sizes => sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("×"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_depth_and_module() {
        let name = "model.visual.transformer.resblocks.11.mlp.c_fc.weight";
        assert_eq!((depth(name), module(name)), (Some(11), "mlp.c_fc.weight"));
        assert_eq!(
            (depth("model.visual.conv1.weight"), module("model.visual.conv1.weight")),
            (None, "model.visual.conv1.weight")
        );
        assert_eq!(shape_text(&[]), "scalar");
        assert_eq!(shape_text(&[2, 3]), "2×3");
    }
}
