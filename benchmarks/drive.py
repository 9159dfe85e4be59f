import os, sys, json, time, multiprocessing as mp, warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
def pin(n):
    with n.get_lock(): k=n.value; n.value+=1
    try: os.sched_setaffinity(0,{k%os.cpu_count()})
    except OSError: pass
def work(task):
    warnings.simplefilter("ignore")
    import polars as pl, qidbayes as qb
    from qidbayes.score.points import score_points
    t=time.time(); name,law,train,outs,draws,how=task
    if how=="posterior":
        f=qb.fit(train,law,random_seed=0,draws=draws,tune=draws); note="; ".join([*f.diagnostics.problems(),*f.diagnostics.remarks()]); steps=float(f.stats["n_steps"].mean())
    else:
        from qidbayes.score.forecasters import FORECASTERS
        x=FORECASTERS[how](train,qb.load_law(law),0); f=x.forecaster; note="; ".join(x.remarks); steps=0
    sec=time.time()-t; frames=[]
    for split,fold,held in outs:
        p=score_points(f,train,held,"qid",0)
        frames.append(p.select(pl.lit(split).alias("split"),pl.lit(fold).alias("fold"),pl.lit(law).alias("law"),pl.lit(how).alias("how"),pl.all()))
    return name,law,how,note,sec,time.time()-t,steps,pl.concat(frames,how="diagonal_relaxed")
def tasks(laws,draws,hows):
    import polars as pl, qidbayes as qb
    from qidbayes.score.rules import every_fold
    B=["tokens > 100B","tokens > 50B","n_params > 5B","n_params > 2B and tokens > 50B","tokens < 16B","leave bits","leave n_params","rolling tokens"]
    py=qb.load_table("pythia"); T=[]
    for law in laws:
      for how in hows:
        for f in every_fold(py,B,0): T.append((f"{law}|{how}|{f.split}|{f.name}",law,py.filter(f.train),[(f.split,f.name,py.filter(f.held_out))],draws,how))
        zero=[]
        for label,name,rows,seen in [("method = awq","pythia/awq-bnb",pl.col("method")=="awq",(6,18)),("method = bnb-4bit","pythia/awq-bnb",pl.col("method")=="bnb-4bit",(6,18)),("suite = spectra","spectra",pl.lit(True),(3,)),*[(f"suite = {s}","llama-qwen",pl.col("suite")==s,(3,)) for s in ("llama-2","llama-3","qwen-2","qwen-2.5")]]:
            other=qb.load_table(name).filter(rows); zero.append((label,label,other))
            j=qb.join_tables(py,other)
            for k in seen:
                (f,)=every_fold(j,f"{label} seeing {k}",0); T.append((f"{law}|{how}|{f.split}",law,j.filter(f.train),[(f.split,f.name,j.filter(f.held_out))],draws,how))
        T.insert(0,(f"{law}|{how}|across",law,py,zero,draws,how))
    return T
if __name__=="__main__":
    import polars as pl
    out,draws,jobs=sys.argv[1],int(sys.argv[2]),int(sys.argv[3]); laws=sys.argv[4].split(","); hows=sys.argv[5].split(","); only=sys.argv[6] if len(sys.argv)>6 else ""
    T=[t for t in tasks(laws,draws,hows) if only in t[0]]
    big=lambda t: ("seeing" in t[0] or "and" in t[0]); T=sorted(T,key=lambda t:not big(t))
    t0=time.time(); done=[]; log=open(out+".log","w"); ctx=mp.get_context("spawn")
    with ProcessPoolExecutor(jobs,mp_context=ctx,initializer=pin,initargs=(ctx.Value("i",0),)) as ex:
        for fu in as_completed([ex.submit(work,t) for t in T]):
            try:
                name,law,how,note,s1,s2,steps,p=fu.result()
                done.append(p); line=f"{time.time()-t0:6.0f}s {name} fit {s1:.0f}s all {s2:.0f}s steps {steps:.1f} n{p.height} c90 {((p['pit']>.05)&(p['pit']<.95)).mean():.3f} lpd {p['log_density'].mean():.2f} crps {p['crps'].mean():.3f} {note}"
                pl.concat(done,how="diagonal_relaxed").write_parquet(out+".tmp"); os.replace(out+".tmp",out)
            except Exception as e: line=f"ERR {e!r}"
            print(line,flush=True); log.write(line+"\n"); log.flush()
