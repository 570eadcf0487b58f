#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

static void a_large_block_is_counted(void **state) {
    struct memory_stats before, after;
    memory_stats(&before);
    size_t bytes = 64u << 20;
    char *block = malloc(bytes);
    assert_non_null(block);
    memset(block, 1, bytes);
    memory_stats(&after);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ /* whose malloc does not tell */
    assert_true(after.allocated_bytes >= before.allocated_bytes + bytes);
#endif
    assert_true(after.process_bytes >= before.process_bytes + bytes / 2);
    free(block);
}

static void *allocate_from_own_arena(void *arg) {
    *(bool *)arg = memory_own_arena();
    char *block = malloc(100000);
    if (!block) return NULL;
    memset(block, 7, 100000);
    return block;
}

/* Memory may be freed by another thread than the one whose arena it came from. */
static void a_thread_gets_its_own_arena(void **state) {
    bool own = false;
    void *block = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, allocate_from_own_arena, &own), 0);
    assert_int_equal(pthread_join(thread, &block), 0);
    assert_non_null(block);
    assert_int_equal(own, strncmp(memory_allocator(), "jemalloc", 8) == 0);
    assert_int_equal(((char *)block)[99999], 7);
    free(block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_block_is_counted),
        cmocka_unit_test(a_thread_gets_its_own_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
