#include "tests/process/cluster_links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/process/node_process.h"

struct links *links_open(const char *name, int nodes, int shards) {
    const struct links_ways *const ways[] = {&links_namespaces, &links_proxy};
    if (!name) name = getenv("JUMUN_TEST_LINKS");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char reason[256] = "";
        if (name && *name && strcmp(name, ways[i]->name) != 0) continue;
        struct links *links = ways[i]->open(nodes, shards, reason, sizeof reason);
        if (links) {
            links->ways = ways[i];
            links->nodes = nodes;
            printf("links between the nodes: %s\n", ways[i]->name);
            fflush(stdout);
            return links;
        }
        printf("links by %s cannot be made here: %s\n", ways[i]->name, reason);
    }
    test_fail(NULL, "no links%s%s", name ? " by " : "", name ? name : "");
}

void links_part(struct links *links, int node, uint32_t with, bool is_cut) {
    for (int other = 1; other <= links->nodes; other++) {
        if (other == node || (with >> other & 1)) continue;
        links->ways->set_cut(links, node, other, is_cut);
        links->ways->set_cut(links, other, node, is_cut);
    }
}

void links_heal(struct links *links) {
    for (int node = 1; node <= links->nodes; node++) links_part(links, node, 0, false);
}
