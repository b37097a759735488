# The lab's guest: a boot sector that does nothing but write to its memory, at a rate that its timer sets, and that leaves
# enough behind to prove from outside that no page was lost or came back old. It needs no disk once it runs and no BIOS.
# A second CPU, where there is one, is woken at every tick of the first one's timer (INIT and STARTUP, as at its start), uses
# a certain amount of CPU time and halts until the next: it writes nothing.
# The assembled bytes are program.ts, checked by test/lab/guest-program.test.ts, which also says how to make them anew:
#   as --32 guest.S -o guest.o && ld -m elf_i386 -Ttext 0x7c00 --oformat binary guest.o -o guest.bin
# What the numbers mean, and the parameters that are patched in: layout.ts.
#
# Memory from 1 MiB to END is filled at boot, page by page: at 0x10, 0x410, 0x810 and 0xc10 of each a word that is its own
# address ^ SALT; the first and the last word are how often the page has been written, 0 at the start. The writes go to
# the first pages of it, the working set, and each adds one to both words and then one to PROGRESS. So whenever the guest
# stands still, the first words of all pages sum up to PROGRESS, or to one more.

.set BASE,     0x100000         # where the memory that is written begins
.set SALT,     0x48455647
.set TIMER,    8                # the timer's vector, as every PC firmware sets it
.set READY,    0x59444552
.set IDT,      0x6000
.set SECOND,   0xa000           # where the second CPU starts: a page's beginning, by number in the STARTUP message
.set ICR,      0xfee00300       # the local APIC's interrupt command, low word

# What it says of itself, from STATE on; %ebp holds STATE for ever.
.set STATE,    0x9000
.set PROGRESS, 0                # 64 bit: writes
.set TICKS,    8                # timer interrupts taken
.set BOOTED,   12               # READY when all memory is filled
.set LEFT,     16               # ticks left of this phase
.set PENDING,  20               # a tick that has not been worked off
.set LATE,     24               # ticks that came before the work of the last one was done
.set SWEEPS,   28
.set CURSOR,   32               # the page that a sweep writes next
.set SEED,     36

.code16
.globl _start
_start:
  cli
  xor %ax, %ax
  mov %ax, %ds
  in $0x92, %al                 # address line 20, the fast way
  or $2, %al
  out %al, $0x92
  lgdt gdtDescriptor
  lidt idtDescriptor
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmp $8, $protected

.code32
protected:
  mov $16, %al                  # %ah is 0: these bits of %cr0 are reserved
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  cld
  xor %eax, %eax
  mov $STATE, %ebp
  mov %ebp, %esp                # the stack is below it
  mov %ebp, %edi
  mov $(SECOND - STATE) / 4, %ecx
  rep stosl
  mov $second, %esi             # %edi is SECOND
  movsl
  movsl
  movsl
  mov $BASE, %edi
  mov %edi, CURSOR(%ebp)

fill:                           # %ecx is 0
  mov %ecx, (%edi)
  mov %ecx, 0xffc(%edi)
  lea 0x10(%edi), %ebx
  mov $4, %cl
place:
  mov %ebx, %eax
  xor $SALT, %eax
  mov %eax, (%ebx)
  add $0x400, %ebx
  dec %cl
  jnz place
  add $0x1000, %edi
  cmp end, %edi
  jb fill

  movl $(0x80000 + tick), IDT + TIMER*8         # an interrupt gate of the code segment; tick is below 64 KiB
  movl $0x8e00, IDT + TIMER*8 + 4
  mov $0xfe, %al                # of the first interrupt controller, set up by the firmware, only the timer
  out %al, $0x21
  mov $0x34, %al                # timer channel 0, rate generator
  out %al, $0x43
  mov divisor, %eax
  out %al, $0x40
  mov %ah, %al
  out %al, $0x40
  movl $READY, BOOTED(%ebp)
  sti

first:
  mov $phases, %esi
enter:
  mov (%esi), %eax
  mov %eax, LEFT(%ebp)
batch:
  cmpl $0, LEFT(%ebp)
  jg work
  add $12, %esi
  cmp $phasesEnd, %esi
  je first
  cmpl $0, (%esi)               # a phase of no ticks ends the table
  je first
  jmp enter
work:
  mov 4(%esi), %ebx
  test %ebx, %ebx
  jz pause

write:
  testb $1, flags
  jz sweep
  imul $1664525, SEED(%ebp), %eax   # Numerical Recipes' generator; its upper bits choose the page
  add $1013904223, %eax
  mov %eax, SEED(%ebp)
  mull 8(%esi)
  shl $12, %edx
  lea BASE(%edx), %edi
  jmp touch
sweep:
  mov CURSOR(%ebp), %edi
  mov 8(%esi), %eax
  shl $12, %eax
  add $BASE, %eax
  cmp %eax, %edi
  jb inside
  mov $BASE, %edi
  incl SWEEPS(%ebp)
inside:
  lea 0x1000(%edi), %eax
  mov %eax, CURSOR(%ebp)
touch:
  incl (%edi)
  incl 0xffc(%edi)
  addl $1, PROGRESS(%ebp)
  adcl $0, PROGRESS + 4(%ebp)
  mov delay, %ecx
  jecxz next
spin:
  dec %ecx
  jnz spin
next:
  dec %ebx
  jnz write

pause:
  testb $2, flags               # unpaced: never halts
  jnz batch
  cmpl $0, PENDING(%ebp)
  je halt
  incl LATE(%ebp)
halt:
  cli
  cmpl $0, PENDING(%ebp)
  jne awake
  sti                           # takes effect after the next instruction: no tick is missed in between
  hlt
  jmp halt
awake:
  movl $0, PENDING(%ebp)        # ticks that were missed are not made up for: a throttled guest does less
  sti
  jmp batch

tick:
  push %eax
  incl TICKS(%ebp)
  movl $1, PENDING(%ebp)
  decl LEFT(%ebp)
  mov $ICR, %eax
  movl $0xc4500, (%eax)         # INIT to all but this one
  movl $0xc4600 + SECOND / 0x1000, (%eax)
  mov $0x20, %al
  out %al, $0x20
  pop %eax
  iret

gdt:                            # its first entry is never used, so it holds what describes the table
gdtDescriptor:
  .word 23
  .long gdt
  .word 0
  .quad 0x00cf9a000000ffff
  .quad 0x00cf92000000ffff
idtDescriptor:
  .word (TIMER + 1)*8 - 1
  .long IDT

.org 0x1ac
parameters:
  .ascii "HEVG"
flags:    .long 0
divisor:  .long 0
delay:    .long 0
end:      .long 0
.code16
second:                         # program and parameter at once: these three words are copied to SECOND
  .byte 0x66, 0xb9              # mov $loops, %ecx
loops:    .long 0
wait:                           # the very loop of the first CPU, so that it takes as long
  dec %ecx
  jnz wait
  hlt                           # interrupts are off: until the next INIT
  nop
phases:   .fill 12, 4, 0
phasesEnd:
.org 510
  .word 0xaa55
