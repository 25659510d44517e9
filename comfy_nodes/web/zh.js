// Chinese (简体中文): English text -> translation. {name} stands for a value and stays as it is.
export default {
  "'{caption}' is ticked; tick a second image to compare them.":
    "已勾选“{caption}”；再勾选一张图像即可比较。",
  "1 batch": "1 个批次",
  "1 batch in the queue": "队列中有 1 个批次",
  "1 caption": "1 条描述",
  "1 class": "1 个类别",
  "1 context": "1 个场景",
  "1 image": "1 张图像",
  "1 style": "1 个风格",
  "and 1 more image": "还有 1 张图像",
  "and {count} more images": "还有 {count} 张图像",
  "bank, shared where a class has none: {entries}": "提示词库，没有自己条目的类别共用：{entries}",
  "bank, {label}: {entries}": "提示词库，{label}：{entries}",
  "bank: and 1 more class": "提示词库：还有 1 个类别",
  "bank: and {count} more classes": "提示词库：还有 {count} 个类别",
  "batch_index {index} is past the last batch, {last}, so Run makes nothing.":
    "批次序号 {index} 已超过最后一个批次 {last}，运行不会生成任何图像。",
  "Batcher": "批次节点",
  "Clear": "清除",
  "Click a picture to set it aside. It can be put back below.":
    "点击图像即可移出，之后可以在下方放回。",
  "Click to set it aside.": "点击移出。",
  "ComfyUI does not respond.": "ComfyUI 没有响应。",
  "Connect {title} to '{name}'.": "请把 {title} 连接到“{name}”。",
  "definition": "定义",
  "doubtful": "可疑",
  "Earlier classes": "前面的类别",
  "If you like them, turn try_one_of_each off and press again for the rest.":
    "如果满意，请关闭“每类先试一张”，再按一次生成其余图像。",
  "If you like them, turn try_one_of_each off, then press '{button}' for the rest.":
    "如果满意，请关闭“每类先试一张”，再按“{button}”生成其余图像。",
  "Last run: {said}": "上次运行：{said}",
  "Make what is missing": "生成缺少的图像",
  "Make what is missing ({missing})": "生成缺少的图像（{missing}）",
  "Next: batch {batch} of {batches}": "下一个：第 {batch} 批，共 {batches} 批",
  "No preview: '{name}' comes from another node and is only known when that node runs.":
    "无法预览：“{name}”来自另一个节点，该节点运行后才能知道。",
  "No preview: '{name}' does not come straight from {title}.":
    "无法预览：“{name}”不是直接来自 {title}。",
  "No preview: 'classes' and 'templates' come from different captions.":
    "无法预览：“类别”和“模板”来自不同的描述列表。",
  "No preview: ComfyUI does not respond.": "无法预览：ComfyUI 没有响应。",
  "Not put back: {reason}": "未放回：{reason}",
  "Not queued: {reason}": "未加入队列：{reason}",
  "Not set aside: this picture has changed or has gone.": "未移出：该图像已改变或已不存在。",
  "Not set aside: {reason}": "未移出：{reason}",
  "nothing": "无",
  "Nothing is missing": "没有缺少的图像",
  "Nothing is missing: all {images} images exist in '{folder}'.":
    "没有缺少的图像：“{folder}”中已有全部 {images} 张图像。",
  "Nothing was queued: ComfyUI does not respond.": "未加入队列：ComfyUI 没有响应。",
  "Nothing was queued: several subgraphs use this batcher; keep one.":
    "未加入队列：有多个子图使用该批次节点，请只保留一个。",
  "Nothing was queued: the batcher is muted or bypassed, or feeds no saver.":
    "未加入队列：批次节点已停用或被绕过，或没有连接到保存节点。",
  "Nothing was queued: {reason}": "未加入队列：{reason}",
  "One image of each of the {images} classes exists in '{folder}'.":
    "“{folder}”中 {images} 个类别都已有一张图像。",
  "One of each is tried first; the plan has {whole} images.":
    "先每类试一张；整个计划有 {whole} 张图像。",
  "Open the picture in full": "打开原图",
  "Press '{button}', or set batch_index to 0.": "请按“{button}”，或把批次序号设为 0。",
  "Put back": "放回",
  "Put back: {label}.": "已放回：{label}。",
  "Queue what is missing": "把缺少的图像加入队列",
  "Queued {queued} of {unfinished} unfinished batches":
    "已把 {unfinished} 个未完成批次中的 {queued} 个加入队列",
  "Queueing {next} of {all} ...": "正在加入队列：第 {next} 个，共 {all} 个……",
  "Queues each batch of which the saver's folder lacks an image, and no other.":
    "只把保存文件夹中缺少图像的批次加入队列。",
  "Reason, if you like: blurred, a cat ...": "原因（可不填）：模糊、是一只猫……",
  "Set aside: the latest {latest} of {all}": "已移出：{all} 张中最近的 {latest} 张",
  "Set aside: {all}": "已移出：{all} 张",
  "Set aside: {label}, now in '{folder}.quarantine'.":
    "已移出：{label}，现在在“{folder}.quarantine”中。",
  "Set aside: {label}, {prompt}": "移出：{label}，{prompt}",
  "Show fewer": "收起",
  "Show {hidden} more": "再显示 {hidden} 张",
  "SynthGrid Captions": "SynthGrid 描述列表",
  "SynthGrid Class List": "SynthGrid 类别列表",
  "SynthGrid Class-Prompt Batcher": "SynthGrid 类别提示词批次",
  "SynthGrid Labelled Image Saver": "SynthGrid 带标签图像保存",
  "SynthGrid Prompt Templates": "SynthGrid 提示词模板",
  "SynthGrid: pictures by class": "SynthGrid：按类别查看图像",
  "The check would reject it: {reason}": "检查认为应当移出：{reason}",
  "The plan is finished.": "计划已完成。",
  "The savers of this batcher have several folders: write one of them into resume_folder.":
    "该批次节点的保存节点使用了不同的文件夹：请把其中一个写入“续传文件夹”。",
  "This node is not part of the workflow.": "该节点不在工作流中。",
  "This workflow has no SynthGrid batcher: open one of SynthGrid's templates.":
    "该工作流中没有 SynthGrid 批次节点：请打开一个 SynthGrid 模板。",
  "Tick two images to compare them.": "勾选两张图像即可比较。",
  "Try one of each class": "每类先试一张",
  "Undo": "撤销",
  "Why the next picture is set aside": "移出下一张图像的原因",
  "{all}, also for {classes} without entries": "{all}，也用于没有条目的{classes}",
  "{count} batches": "{count} 个批次",
  "{count} batches in the queue": "队列中有 {count} 个批次",
  "{count} captions": "{count} 条描述",
  "{count} classes": "{count} 个类别",
  "{count} contexts": "{count} 个场景",
  "{count} h": "{count} 小时",
  "{count} images": "{count} 张图像",
  "{count} min": "{count} 分钟",
  "{count} of {planned}": "{count} / {planned}",
  "{count} s": "{count} 秒",
  "{count} styles": "{count} 个风格",
  "{done} of {all} batches were queued. Then: {reason}":
    "已把 {all} 个批次中的 {done} 个加入队列。随后出错：{reason}",
  "{done} of {images} exist in '{folder}'": "{images}中，“{folder}”已有 {done} 张",
  "{done} of {images} pictures of {count} classes are in '{folder}'":
    "“{folder}”中有 {count} 个类别的 {done} 张图像，计划 {images} 张",
  "{done} of this plan's {images} exist": "计划的 {images}中已有 {done} 张",
  "{head}, beside {others} of other prompts or classes":
    "{head}；另有 {others} 张属于其他提示词或类别",
  "{hidden} more classes": "其余 {hidden} 个类别",
  "{left} or {right}": "{left} 或 {right}",
  "{next}, without {existing} existing": "{next}，不含已有的 {existing} 张",
  "{next}: all of its images exist, nothing will be sampled":
    "{next}：其图像均已存在，不会采样",
  "{plan} in {batches}": "{plan}，{batches}",
  "{waiting}; about {time} for all that is missing": "{waiting}；全部缺少的图像约需 {time}",
  "{words}. Press again when they are done.": "{words}。完成后请再按一次。",
  "{words}: one image of each class, {missing} of {images} to make.":
    "{words}：每类一张图像，{images} 张中还要生成 {missing} 张。",
  "{words}: {missing} of {images} images are missing in '{folder}'.":
    "{words}：“{folder}”缺少 {images} 张图像中的 {missing} 张。",
};
