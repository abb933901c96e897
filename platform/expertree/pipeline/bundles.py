"""Assembles a bundle from finished results, and copies it to where a run's output goes."""

from collections.abc import Mapping

from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.runner import OnDone
from expertree.pipeline.stages import Workbench, check_whole, key_of
from expertree.restorer import write_bundle
from expertree.storage import Storage

_MANIFEST = "manifest.json"


def make_bundle(
    bench: Workbench,
    extractor: Storage,
    tree: Storage,
    router: Storage,
    serving: Mapping[int, ExpertPlan],
    windows: Mapping[int, int | None] | None = None,
) -> Storage:
    """Assemble a bundle of stored results, which are checked first, or find it in the store.

    Args:
        bench: The workbench.
        extractor: Result with the extractor.
        tree: Result with the tree.
        router: Result with the routers and the guide.
        serving: The expert that serves each node, by node.
        windows: Side in pixels of the windows of some experts, by node; none by default.

    Raises:
        ArtefactError: If a part is damaged, or the parts do not belong together.
    """
    experts = {node: plan.result for node, plan in serving.items()}
    spec = {
        "extractor": key_of(extractor),
        "tree": key_of(tree),
        "router": key_of(router),
        "experts": {str(node): key_of(result) for node, result in experts.items()},
    }

    sides = {node: side for node, side in (windows or {}).items() if side is not None}
    if sides:
        spec["windows"] = {str(node): side for node, side in sides.items()}

    def make(result: Storage, _: OnDone) -> None:
        for part in (extractor, tree, router, *experts.values()):
            check_whole(part)
        write_bundle(
            result,
            extractor=extractor,
            tree=tree,
            router=router,
            experts=experts,
            windows=sides,
        )

    return bench.run("bundle", spec, make)


def copy_bundle(bundle: Storage, target: Storage) -> None:
    """Copy a stored bundle; its manifest comes last, and marks the copy as complete."""
    names = [name for name in bundle.done()["files"] if name != _MANIFEST]
    old = set(target.list_files())
    if _MANIFEST in old:
        if target.read_bytes(_MANIFEST) == bundle.read_bytes(_MANIFEST):
            return
        target.delete()
    for name in [*names, _MANIFEST]:
        target.write_bytes(name, bundle.read_bytes(name))
