/* Any bytes as the data.mdb of an environment: whatever they say, nothing outside of them is read,
 * every walk ends, and what is given out lies in them. */
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "persistence/lmdb/page_tree.h"
#include "tests/fuzz/fuzz_harness.h"

static void fuzz_walk(struct page_cursor *c, const struct page_tree *t) {
    struct page_row row;
    uint64_t steps = 0, rows = 0, most = (t->bytes / t->page_bytes + 1) * t->page_bytes;
    int step;
    while ((step = page_cursor_next(c, &row)) != 0) {
        require(++steps <= most); /* a page has far fewer slots than bytes, and is met once */
        if (step < 0) {
            require(c->fault.what != NULL && c->fault.what[0] != '\0');
            continue;
        }
        const uint8_t *end = t->map + t->bytes;
        require(row.key >= t->map && row.key <= end);
        require(row.key_bytes <= (uint64_t)(end - row.key));
        require(row.value >= t->map && row.value <= end);
        require(row.value_bytes <= (uint64_t)(end - row.value));
        require(row.offset == (uint64_t)(row.value - t->map));
        if (rows++ % 16 == 0) {
            fuzz_touch(row.key, row.key_bytes);
            fuzz_touch(row.value, row.value_bytes);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    struct page_tree t = {.path = "fuzz", .fd = -1};
    struct page_cursor c;
    char error[256];
    uint64_t root;
    if (size == 0) return 0;
    /* The bytes are read where they lie, not in a file's last page; the tree only asks how many. */
    if (fd < 0) fd = memfd_create("page_tree_fuzz", 0);
    require(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    t.fd = fd;
    t.map = data;
    t.bytes = size;
    if (size < 152 || page_tree_pin(&t, error, sizeof error) != 0) return 0;
    page_cursor_seek(&c, &t, t.root, NULL, 0);
    fuzz_walk(&c, &t);
    page_cursor_seek(&c, &t, t.root, data + size - 8, 8);
    fuzz_walk(&c, &t);
    page_cursor_seek_last(&c, &t, t.root);
    fuzz_walk(&c, &t);
    if (page_tree_table(&t, "orders", &root)) {
        page_cursor_seek(&c, &t, root, NULL, 0);
        fuzz_walk(&c, &t);
    }
    return 0;
}
