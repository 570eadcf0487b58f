/* Documents for tests: three nodes, two shards. */
#ifndef JUMUN_TESTS_CLUSTER_DOCUMENTS_H
#define JUMUN_TESTS_CLUSTER_DOCUMENTS_H

#include "actors/cluster/cluster.h"

/* The founding document. */
void cluster_document_example(struct cluster_document *document);

#endif
