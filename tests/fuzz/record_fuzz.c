/* Any bytes as a stored record: a fault is named or there is none; a flipped bit always is one. */
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/limits.h"
#include "persistence/record.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > ENTRY_BYTES_MAX) return 0;
    void *bytes = fuzz_aligned(data, size); /* as LMDB gives them */
    if (bytes == NULL) return 0;
    uint64_t index = 1;
    if (size >= sizeof(struct record_header)) index = ((const struct record_header *)bytes)->index;
    const char *fault = record_fault(bytes, size, index);
    if (fault != NULL) {
        require(fault[0] != '\0');
    } else {
        require(record_fault(bytes, size, index + 1) != NULL);
        require(record_fault(bytes, size - 1, index) != NULL);
        size_t bit = (size_t)index % (size * 8);
        ((uint8_t *)bytes)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        require(record_fault(bytes, size, index) != NULL);
    }
    free(bytes);
    return 0;
}
