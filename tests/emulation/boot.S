# First sector of the disk: loads the next 63 sectors to 0x10000, maps the first GiB onto itself in 2 MiB pages,
# and goes from real mode straight to long mode.
        .code16
        .globl _start
_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movw    $packet, %si
        movb    $0x42, %ah              # BIOS extended read; DL already names the boot drive
        int     $0x13
        jc      hang
        inb     $0x92, %al              # A20 gate
        orb     $2, %al
        outb    %al, $0x92

        movw    $0x1000, %di            # PML4 at 0x1000, PDPT at 0x2000, PD at 0x3000
        xorl    %eax, %eax
        movw    $0x0c00, %cx
        rep stosl
        movl    $0x2003, 0x1000
        movl    $0x3003, 0x2000
        movw    $0x3000, %di
        movl    $0x83, %eax             # present, writable, 2 MiB
page:   movl    %eax, (%di)
        addw    $8, %di
        addl    $0x200000, %eax
        cmpw    $0x4000, %di
        jne     page

        movl    $0x20, %eax             # CR4.PAE
        movl    %eax, %cr4
        movl    $0x1000, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       # EFER.LME
        rdmsr
        orl     $0x100, %eax
        wrmsr
        lgdt    gdtr
        movl    %cr0, %eax
        andl    $0x9ffffffb, %eax       # caches on, no x87 emulation
        orl     $0x80000003, %eax       # PG, MP, PE
        movl    %eax, %cr0
        ljmp    $8, $0x7c00 + (long_mode - _start)
hang:   hlt
        jmp     hang

        .code64
long_mode:
        movq    %cr4, %rax
        orq     $0x40600, %rax          # OSFXSR, OSXMMEXCPT, OSXSAVE
        movq    %rax, %cr4
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        movl    $0xe7, %eax             # XCR0: x87, SSE, AVX, AVX-512
        xsetbv
        movl    $0x90000, %esp
        movl    $0x10000, %eax
        jmp     *%rax

        .balign 8
gdt:    .quad   0
        .quad   0x00209a0000000000      # 64-bit code
gdtr:   .word   15
        .long   0x7c00 + (gdt - _start)
packet: .byte   16, 0
        .word   63                      # sectors
        .word   0, 0x1000               # to 1000:0000
        .quad   1                       # from LBA 1
        .org    510
        .word   0xaa55
