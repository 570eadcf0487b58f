/* The layout is that of LMDB 0.9 on 64 bits (docs/formats.md walks it in 20 lines of Python). */
#include "persistence/lmdb/page_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/limits.h"
#include "persistence/lmdb/env.h"

enum {
    PAGE_HEADER = 16, PAGE_FLAGS_AT = 10, PAGE_LOWER_AT = 12, PAGE_UPPER_AT = 14,
    PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4,
    NODE_HEADER = 8, NODE_BIG = 1, NODE_TABLE = 2,
    META_MAGIC_AT = 16, META_PAGE_BYTES_AT = 40, META_FREE_ROOT_AT = 80, META_ROWS_AT = 120,
    META_ROOT_AT = 128, META_LAST_PAGE_AT = 136, META_TXN_AT = 144, META_BYTES = 152,
    TABLE_ROOT_AT = 40, TABLE_BYTES = 48,
    PIN_TRIES = 64, PAGES_MIN = 2
};
static const uint32_t meta_magic = 0xBEEFC0DE;
static const uint64_t page_none = UINT64_MAX;

static uint16_t get16(const uint8_t *at) { uint16_t v; memcpy(&v, at, 2); return v; }
static uint32_t get32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return v; }
static uint64_t get64(const uint8_t *at) { uint64_t v; memcpy(&v, at, 8); return v; }

/* -- the file ------------------------------------------------------------------------------- */

/* Before bytes in the map are touched. */
static bool tree_can_read(const struct page_tree *t, uint64_t at, uint64_t bytes) {
    return !t->probe || page_probe_read(t->probe, t->fd, t->map, t->bytes, at, bytes);
}

static int tree_map(struct page_tree *t, char *error, size_t error_bytes) {
    struct stat st;
    if (fstat(t->fd, &st) != 0) {
        return lmdb_error(error, error_bytes, "%s/data.mdb: %s", t->path, strerror(errno));
    }
    uint64_t bytes = (uint64_t)st.st_size;
    if (t->map && bytes == t->bytes) return 0;
    if (t->map) munmap((void *)(uintptr_t)t->map, t->bytes);
    t->map = NULL;
    t->bytes = 0;
    if (bytes < META_BYTES) {
        errno = 0;
        return lmdb_error(error, error_bytes, "%s/data.mdb is cut short: %llu bytes", t->path,
                          (unsigned long long)bytes);
    }
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, t->fd, 0);
    if (map == MAP_FAILED) {
        return lmdb_error(error, error_bytes, "%s/data.mdb cannot be mapped: %s", t->path,
                          strerror(errno));
    }
    t->map = map;
    t->bytes = bytes;
    return 0;
}

int page_tree_open(struct page_tree *t, const char *directory, MDB_env *env,
                   struct page_probe *probe, bool sequential, char *error, size_t error_bytes) {
    char file[PAGE_TREE_PATH_BYTES_MAX + 16];
    *t = (struct page_tree){.env = env, .probe = probe, .fd = -1};
    snprintf(t->path, sizeof t->path, "%s", directory);
    snprintf(file, sizeof file, "%s/data.mdb", directory);
    t->fd = open(file, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0) return lmdb_error(error, error_bytes, "%s: %s", file, strerror(errno));
    if (probe) page_probe_begin(t->fd);
    if (tree_map(t, error, error_bytes) != 0 || page_tree_pin(t, error, error_bytes) != 0) {
        int code = errno;
        page_tree_close(t);
        errno = code;
        return -1;
    }
    if (sequential && !probe) madvise((void *)(uintptr_t)t->map, t->bytes, MADV_SEQUENTIAL);
    return 0;
}

void page_tree_close(struct page_tree *t) {
    page_tree_unpin(t);
    if (t->map) munmap((void *)(uintptr_t)t->map, t->bytes);
    if (t->probe && t->fd >= 0) page_probe_let_go(t->probe, t->fd); /* nothing is mapped now */
    if (t->fd >= 0) close(t->fd);
    *t = (struct page_tree){.fd = -1};
}

void page_tree_forget(struct page_tree *t) {
    if (t->map) madvise((void *)(uintptr_t)t->map, t->bytes, MADV_DONTNEED);
    if (t->probe) page_probe_let_go(t->probe, t->fd);
    t->touched_bytes = 0;
}

bool page_fault_is_passing(int code) {
    return code == ENOMEM || code == EMFILE || code == ENFILE || code == EAGAIN || code == EINTR;
}

MDB_env *page_env_open(const char *directory) {
    MDB_env *env;
    if (mdb_env_create(&env) != 0) return NULL;
    /* A file that was cut is not opened: LMDB would run into its lost pages. */
    if (mdb_env_set_maxreaders(env, STORAGE_READERS_MAX) == 0 &&
        mdb_env_open(env, directory, MDB_RDONLY | MDB_NOTLS, 0) == 0) {
        return env;
    }
    mdb_env_close(env);
    return NULL;
}

/* -- views ---------------------------------------------------------------------------------- */

static bool meta_is_sound(const struct page_tree *t, uint32_t which, uint32_t page_bytes) {
    uint64_t at = (uint64_t)which * page_bytes;
    return at + META_BYTES <= t->bytes && tree_can_read(t, at, META_BYTES) &&
           get32(t->map + at + META_MAGIC_AT) == meta_magic;
}

/* The meta page of transaction `id` (0 = the newest). False when it is not there any more. */
static bool tree_take_meta(struct page_tree *t, uint64_t id) {
    uint32_t page_bytes = 0;
    if (meta_is_sound(t, 0, 0)) page_bytes = get32(t->map + META_PAGE_BYTES_AT);
    if (page_bytes < 512 || page_bytes > 65536 ||
        (page_bytes & (page_bytes - 1)) != 0) {
        page_bytes = (uint32_t)sysconf(_SC_PAGESIZE); /* the first page is lost, not the second */
    }
    bool found = false;
    for (uint32_t which = 0; which < 2; which++) {
        if (!meta_is_sound(t, which, page_bytes)) continue;
        const uint8_t *meta = t->map + (uint64_t)which * page_bytes;
        uint64_t txn_id = get64(meta + META_TXN_AT), root = get64(meta + META_ROOT_AT);
        if (get64(meta + META_TXN_AT) != txn_id) continue;
        if (id != 0 ? txn_id != id : found && txn_id < t->txn_id) continue;
        t->txn_id = txn_id;
        t->root = root;
        t->rows = get64(meta + META_ROWS_AT);
        t->free_root = get64(meta + META_FREE_ROOT_AT);
        t->pages_told = get64(meta + META_LAST_PAGE_AT) + 1;
        t->page_bytes = page_bytes;
        found = true;
    }
    return found;
}

void page_tree_unpin(struct page_tree *t) {
    if (t->txn) mdb_txn_abort(t->txn);
    t->txn = NULL;
}

/* The writer may have committed twice between the begin and the look at the meta pages; then the
 * next try finds the newer one. */
static bool tree_hold_view(struct page_tree *t, char *error, size_t error_bytes, int *outcome) {
    for (int i = 0; i < PIN_TRIES; i++) {
        page_tree_unpin(t);
        int rc = mdb_txn_begin(t->env, NULL, MDB_RDONLY, &t->txn);
        if (rc == MDB_MAP_RESIZED) {
            mdb_env_set_mapsize(t->env, 0);
            continue;
        }
        if (rc != 0) {
            t->txn = NULL;
            errno = rc > 0 ? rc : rc == MDB_READERS_FULL ? EAGAIN : 0;
            *outcome = lmdb_error(error, error_bytes, "%s: %s", t->path, mdb_strerror(rc));
            return true;
        }
        *outcome = tree_map(t, error, error_bytes);
        if (*outcome != 0) return true;
        uint64_t id = mdb_txn_id(t->txn);
        if (id == 0) { /* nothing was ever committed */
            t->root = t->free_root = page_none;
            t->rows = t->pages_told = 0;
            t->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
            return true;
        }
        if (tree_take_meta(t, id)) return true;
    }
    return false;
}

int page_tree_pin(struct page_tree *t, char *error, size_t error_bytes) {
    int outcome = 0;
    if (t->env && tree_hold_view(t, error, error_bytes, &outcome)) return outcome;
    page_tree_unpin(t);
    if (tree_map(t, error, error_bytes) != 0) return -1;
    if (tree_take_meta(t, 0)) return 0;
    errno = 0;
    return lmdb_error(error, error_bytes, "%s/data.mdb: neither of its two meta pages is whole",
                      t->path);
}

bool page_tree_is_overtaken(const struct page_tree *t) {
    for (uint32_t which = 0; which < 2; which++) {
        const uint8_t *meta = t->map + (uint64_t)which * t->page_bytes;
        if (meta_is_sound(t, which, t->page_bytes) && get64(meta + META_TXN_AT) > t->txn_id)
            return true;
    }
    return false;
}

/* -- pages ---------------------------------------------------------------------------------- */

static const uint8_t *cursor_fault(struct page_cursor *c, uint64_t page, const char *what) {
    c->fault = (struct page_fault){page, page * c->tree->page_bytes, what};
    return NULL;
}

/* A page of the tree whose every node can be read; NULL with c->fault. */
static const uint8_t *cursor_page(struct page_cursor *c, uint64_t number, bool *leaf,
                                  uint32_t *slots) {
    const struct page_tree *t = c->tree;
    uint32_t size = t->page_bytes;
    if (number < PAGES_MIN || number >= t->bytes / size) {
        return cursor_fault(c, number, "lies outside of the file");
    }
    if (++c->pages > c->pages_max) return cursor_fault(c, number, "is reached in a circle");
    if (!tree_can_read(t, number * size, size)) return cursor_fault(c, number, "cannot be read");
    const uint8_t *page = t->map + number * size;
    uint16_t flags = get16(page + PAGE_FLAGS_AT), lower = get16(page + PAGE_LOWER_AT);
    uint16_t upper = get16(page + PAGE_UPPER_AT);
    if (get64(page) != number) return cursor_fault(c, number, "holds another page's number");
    *leaf = flags & PAGE_LEAF;
    if (*leaf == ((flags & PAGE_BRANCH) != 0) || (flags & PAGE_OVERFLOW)) {
        return cursor_fault(c, number, "is not a page of a tree");
    }
    if (lower < PAGE_HEADER || lower > upper || upper > size || (lower & 1)) {
        return cursor_fault(c, number, "has bounds that cannot be");
    }
    *slots = (lower - PAGE_HEADER) / 2u;
    for (uint32_t i = 0; i < *slots; i++) {
        uint32_t at = get16(page + PAGE_HEADER + 2 * i);
        if (at < upper || at + NODE_HEADER > size || (at & 1) ||
            at + NODE_HEADER + get16(page + at + 6) > size) {
            return cursor_fault(c, number, "has a node outside of itself");
        }
    }
    return page;
}

static const uint8_t *page_node(const uint8_t *page, uint32_t slot) {
    return page + get16(page + PAGE_HEADER + 2 * slot);
}

static uint64_t node_child(const uint8_t *node) {
    return get16(node) | (uint64_t)get16(node + 2) << 16 | (uint64_t)get16(node + 4) << 32;
}

static int node_compare(const uint8_t *node, const void *key, uint32_t key_bytes) {
    uint32_t size = get16(node + 6), least = size < key_bytes ? size : key_bytes;
    int order = memcmp(node + NODE_HEADER, key, least);
    return order != 0 ? order : (int)size - (int)key_bytes;
}

static bool cursor_push(struct page_cursor *c, uint64_t number) {
    if (c->depth == PAGE_TREE_DEPTH_MAX) {
        cursor_fault(c, number, "lies deeper than any tree is");
        return false;
    }
    bool leaf;
    uint32_t slots;
    const uint8_t *page = cursor_page(c, number, &leaf, &slots);
    if (!page) return false;
    c->level[c->depth].page = page;
    c->level[c->depth].slot = 0;
    c->level[c->depth].slots = slots;
    c->level[c->depth].leaf = leaf;
    c->depth++;
    return true;
}

static bool cursor_begin(struct page_cursor *c, struct page_tree *t, uint64_t root) {
    *c = (struct page_cursor){.tree = t};
    if (root == page_none) return false;
    c->pages_max = t->bytes / t->page_bytes;
    c->faulty = !cursor_push(c, root);
    return !c->faulty;
}

void page_cursor_seek(struct page_cursor *c, struct page_tree *t, uint64_t root, const void *key,
                      uint32_t key_bytes) {
    if (!cursor_begin(c, t, root) || key_bytes == 0) return;
    for (;;) {
        uint32_t d = c->depth - 1, low = c->level[d].leaf ? 0 : 1, high = c->level[d].slots;
        const uint8_t *page = c->level[d].page;
        /* The first key of a branch stands for everything below its second one. */
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            int order = node_compare(page_node(page, middle), key, key_bytes);
            if (c->level[d].leaf ? order < 0 : order <= 0) low = middle + 1;
            else high = middle;
        }
        if (c->level[d].leaf) {
            c->level[d].slot = low;
            return;
        }
        if (c->level[d].slots == 0) return;
        c->level[d].slot = low;
        if (!cursor_push(c, node_child(page_node(page, low - 1)))) {
            c->faulty = true;
            return;
        }
    }
}

void page_cursor_seek_last(struct page_cursor *c, struct page_tree *t, uint64_t root) {
    if (!cursor_begin(c, t, root)) return;
    for (;;) {
        uint32_t d = c->depth - 1, slots = c->level[d].slots;
        if (slots == 0) return;
        c->level[d].slot = c->level[d].leaf ? slots - 1 : slots;
        if (c->level[d].leaf) return;
        if (!cursor_push(c, node_child(page_node(c->level[d].page, slots - 1)))) {
            c->faulty = true;
            return;
        }
    }
}

/* The value of a leaf's node; false with c->fault. */
static bool cursor_value(struct page_cursor *c, const uint8_t *page, const uint8_t *node,
                         struct page_row *row) {
    const struct page_tree *t = c->tree;
    uint32_t size = t->page_bytes, key_bytes = get16(node + 6);
    uint64_t number = (uint64_t)(page - t->map) / size;
    uint64_t bytes = get16(node) | (uint64_t)get16(node + 2) << 16;
    uint32_t at = (uint32_t)(node - page) + NODE_HEADER + key_bytes;
    row->key = node + NODE_HEADER;
    row->key_bytes = key_bytes;
    row->value_bytes = bytes;
    if (!(get16(node + 4) & NODE_BIG)) {
        row->value = page + at;
        row->offset = number * size + at;
        if (at + bytes <= size) return true;
        return cursor_fault(c, number, "has a value outside of itself") != NULL;
    }
    if (at + 8 > size) return cursor_fault(c, number, "has a value outside of itself") != NULL;
    uint64_t big = get64(page + at);
    row->offset = big * size + PAGE_HEADER;
    if (big < PAGES_MIN || big >= t->bytes / size || t->bytes - row->offset < bytes) {
        cursor_fault(c, number, "has a large value outside of the file");
        return false;
    }
    if (!tree_can_read(t, big * size, PAGE_HEADER + bytes)) {
        cursor_fault(c, big, "has a large value that cannot be read");
        return false;
    }
    const uint8_t *first = t->map + big * size;
    if (get64(first) != big || !(get16(first + PAGE_FLAGS_AT) & PAGE_OVERFLOW)) {
        cursor_fault(c, big, "is not the first page of a large value");
        return false;
    }
    row->value = first + PAGE_HEADER;
    return true;
}

int page_cursor_next(struct page_cursor *c, struct page_row *row) {
    if (c->faulty) {
        c->faulty = false;
        return -1;
    }
    while (c->depth > 0) {
        uint32_t d = c->depth - 1;
        if (c->level[d].slot >= c->level[d].slots) {
            c->depth--;
            continue;
        }
        const uint8_t *page = c->level[d].page;
        const uint8_t *node = page_node(page, c->level[d].slot++);
        if (!c->level[d].leaf) {
            if (!cursor_push(c, node_child(node))) return -1;
            continue;
        }
        return cursor_value(c, page, node, row) ? 1 : -1;
    }
    return 0;
}

/* Each row of the table of free pages is a list of page numbers, their count in front. */
uint64_t page_tree_lost(struct page_tree *t) {
    uint64_t have = t->bytes / t->page_bytes, spare = 0, count, number;
    struct page_cursor c;
    struct page_row row;
    if (t->pages_told <= have) return 0;
    page_cursor_seek(&c, t, t->free_root, NULL, 0);
    for (int step; (step = page_cursor_next(&c, &row)) != 0;) {
        if (step < 0 || row.value_bytes < sizeof count) continue;
        memcpy(&count, row.value, sizeof count);
        for (uint64_t i = 1; i <= count && (i + 1) * sizeof number <= row.value_bytes; i++) {
            memcpy(&number, row.value + i * sizeof number, sizeof number);
            spare += number >= have && number < t->pages_told;
        }
    }
    uint64_t lost = t->pages_told - have;
    return lost > spare ? lost - spare : 0;
}

bool page_tree_table(const struct page_tree *t, const char *name, uint64_t *root) {
    struct page_cursor c;
    struct page_row row;
    uint32_t name_bytes = (uint32_t)strlen(name);
    *root = page_none;
    page_cursor_seek(&c, (struct page_tree *)(uintptr_t)t, t->root, name, name_bytes);
    if (page_cursor_next(&c, &row) != 1 || row.key_bytes != name_bytes ||
        memcmp(row.key, name, name_bytes) != 0 || row.value_bytes != TABLE_BYTES) {
        return false;
    }
    *root = get64(row.value + TABLE_ROOT_AT);
    return true;
}
