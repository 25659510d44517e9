// Follows links in the graph: through reroutes, into subgraphs and out of them.
//
// A place is {node, hosts}: hosts are the subgraph nodes that hold the node, outermost first. The
// same subgraph can be used twice, so that a node alone does not say where it is.

const FROM_OUTSIDE = -10; // what a link has as its origin where it enters a subgraph
const TO_OUTSIDE = -20; // what a link has as its target where it leaves one
const MOST_HOPS = 200; // links in a circle end too

const isReroute = (node) => node.type === "Reroute";
const isSubgraph = (node) => node.isSubgraphNode?.() ?? false;
const linkOf = (graph, id) => graph.getLink?.(id) ?? graph.links?.[id] ?? null;

/** Every place of a node: one in the main graph; one for each use of its subgraph. */
export function placesOf(node, root) {
  const found = [];
  function search(graph, hosts) {
    if (graph === node.graph) found.push({ node, hosts });
    for (const host of graph.nodes) {
      if (isSubgraph(host) && !hosts.includes(host)) search(host.subgraph, [...hosts, host]);
    }
  }
  search(root, []);
  return found;
}

export function slotOf(node, name) {
  return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

/**
 * What feeds an input: a place; {host, name} if it is a value on the subgraph node `host`; or null.
 */
export function sourceOf({ node, hosts }, name) {
  let slot = slotOf(node, name);
  for (let hops = 0; hops < MOST_HOPS; hops++) {
    const input = node.inputs?.[slot];
    if (!input) return null;
    let link = input.link == null ? null : linkOf(node.graph, input.link);
    if (!link) return hops > 0 && isSubgraph(node) ? { host: node, name: input.name } : null;
    let graph = node.graph;
    if (Number(link.origin_id) === FROM_OUTSIDE) {
      [node, slot, hosts] = [hosts.at(-1), link.origin_slot, hosts.slice(0, -1)];
      continue;
    }
    let origin = graph.getNodeById(link.origin_id);
    while (origin && isSubgraph(origin)) {
      graph = origin.subgraph;
      link = linkOf(graph, graph.outputs[link.origin_slot]?.linkIds?.[0]);
      hosts = [...hosts, origin];
      origin = link && graph.getNodeById(link.origin_id);
    }
    if (!origin || !isReroute(origin)) return origin ? { node: origin, hosts } : null;
    [node, slot] = [origin, 0];
  }
  return null;
}

/** The places that an output feeds. */
export function targetsOf({ node, hosts }, slot, hops = 0) {
  if (hops > MOST_HOPS) return [];
  const links = (node.outputs?.[slot]?.links ?? []).map((id) => linkOf(node.graph, id));
  return links.flatMap((link) => reached(node.graph, link, hosts, hops + 1));
}

function reached(graph, link, hosts, hops) {
  if (!link) return [];
  if (Number(link.target_id) === TO_OUTSIDE) {
    return targetsOf({ node: hosts.at(-1), hosts: hosts.slice(0, -1) }, link.target_slot, hops);
  }
  const node = graph.getNodeById(link.target_id);
  if (!node) return [];
  if (isReroute(node)) return targetsOf({ node, hosts }, 0, hops);
  if (!isSubgraph(node) || hops > MOST_HOPS) return [{ node, hosts }];
  const inner = node.subgraph.inputs[link.target_slot]?.linkIds ?? [];
  return inner.flatMap((id) =>
    reached(node.subgraph, linkOf(node.subgraph, id), [...hosts, node], hops + 1),
  );
}
