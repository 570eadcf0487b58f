/* Any bytes as a cluster document: a fault is named, or it is one that keeps all invariants and
 * comes out of the encoder as it went in. */
#include "engine/base/check.h"
#include "engine/wire/cluster_encode.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct cluster_document document, again;
    static uint8_t encoded[CLUSTER_ENCODED_BYTES_MAX];
    uint64_t version, version_again;
    const char *fault = cluster_decode(data, size, &version, &document);
    if (fault != NULL) {
        require(fault[0] != '\0');
        return 0;
    }
    require(version != 0 && cluster_document_fault(&document) == NULL);
    struct msgpack_writer w;
    msgpack_writer_init(&w, encoded, sizeof encoded);
    cluster_encode(&w, version, &document);
    require(msgpack_writer_ok(&w));
    require(cluster_decode(encoded, msgpack_writer_size(&w), &version_again, &again) == NULL);
    require(version == version_again && memcmp(&document, &again, sizeof again) == 0);
    return 0;
}
